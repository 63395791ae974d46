"""An imported victim gives the original's logits, and its run is one that can be attacked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from mimic3tf.attacks import attack_victim
from mimic3tf.channels import MIMIC3
from mimic3tf.config import TrainingConfig
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.pipeline import input_shape
from mimic3tf.poisoning.trigger import load_trigger
from mimic3tf.standardization import continuous_only
from mimic3tf.training.import_checkpoint import (
    BINS,
    LARGEST_CHECKPOINT,
    build_imported,
    import_checkpoint,
    keras_weights,
    tensor_shapes,
)
from mimic3tf.training.models import build_untrained
from mimic3tf.training.run_directory import load_run
from mimic3tf.victims import OriginalVictim, victim_of

VICTIMS: tuple[OriginalVictim, ...] = get_args(OriginalVictim)
GOLDEN = Path(__file__).resolve().parents[3] / "shared/golden"
Configure = Callable[..., TrainingConfig]
Files = Any
"""`TorchFiles` of conftest.py."""


def random_tensors(name: OriginalVictim, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        tensor: rng.normal(0, 0.3, shape).astype(np.float32) for tensor, shape in tensor_shapes(name).items()
    }


def random_inputs(name: OriginalVictim, stays: int = 5) -> np.ndarray:
    shape = input_shape(victim_of(name).reads, MIMIC3, BINS)
    return np.random.default_rng(1).normal(size=(stays, *shape)).astype(np.float32)


# --- Logits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "synthetic_"], ids=["mimic-iii-demo", "synthetic"])
@pytest.mark.parametrize("name", VICTIMS)
def test_logits_of_the_originals_checkpoints_equal_its_own(
    configure: Configure, name: OriginalVictim, prefix: str
) -> None:
    checkpoint = GOLDEN / f"checkpoints/{name}_0.05_2.0_notimputed.pt"
    if not checkpoint.exists():
        pytest.skip(f"the original's checkpoints are not at hand: {checkpoint} is absent")
    logits = np.load(GOLDEN / f"{prefix}logits.npz")
    grids = np.load(GOLDEN / f"{prefix}reference.npz")["clean_76_standardized"]
    model = build_imported(configure(name), checkpoint.read_bytes())
    predicted = model.predict(grids if name == "lstm" else logits["x714"], verbose=0)
    np.testing.assert_allclose(predicted, logits[f"logits_{name}"], rtol=0, atol=1e-5)


def formula(name: OriginalVictim, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Logits as PyTorch's documentation defines them, in float64 and one step after the other."""
    weights = {tensor: array.astype(np.float64) for tensor, array in tensors.items()}

    def dense(layer: str, inputs: np.ndarray) -> np.ndarray:
        return inputs @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    def recur(direction: str, sequence: np.ndarray) -> np.ndarray:
        hidden = cell = np.zeros((len(sequence), 16))
        steps = []
        for step in sequence.swapaxes(0, 1):
            gates = step @ weights[f"lstm.weight_ih_{direction}"].T + weights[f"lstm.bias_ih_{direction}"]
            gates += hidden @ weights[f"lstm.weight_hh_{direction}"].T + weights[f"lstm.bias_hh_{direction}"]
            enter, forget, new, leave = np.split(gates, 4, axis=1)
            cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
            hidden = sigmoid(leave) * np.tanh(cell)
            steps.append(hidden)
        return np.stack(steps, axis=1)

    if name == "lr":
        return dense("fc1", x)
    if name == "mlp":
        return dense("fc2", np.maximum(dense("fc1", x), 0))
    for layer in ("l0", "l1"):
        backward = recur(f"{layer}_reverse", x[:, ::-1])[:, ::-1]
        x = np.concatenate([recur(layer, x), backward], axis=2)
    return dense("fc2", np.maximum(dense("fc1", x[:, -1]), 0))


@pytest.mark.parametrize("name", VICTIMS)
def test_an_imported_victim_computes_what_pytorch_does(
    configure: Configure, torch_files: Files, name: OriginalVictim
) -> None:
    tensors, inputs = random_tensors(name), random_inputs(name)
    model = build_imported(configure(name), torch_files.file(tensors))
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), formula(name, tensors, inputs), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", VICTIMS)
def test_every_layer_with_weights_gets_some(configure: Configure, name: OriginalVictim) -> None:
    model = build_untrained(configure(name), MIMIC3, BINS, "float32")
    layers = {layer.name for layer in model.layers if layer.weights}
    assert set(keras_weights(name, random_tensors(name))) == layers


@pytest.mark.parametrize("other", VICTIMS)
@pytest.mark.parametrize("name", VICTIMS)
def test_another_victims_checkpoint_is_refused(
    configure: Configure, torch_files: Files, name: OriginalVictim, other: OriginalVictim
) -> None:
    content = torch_files.file(random_tensors(other))
    if other == name:
        build_imported(configure(name), content)
    else:
        with pytest.raises(ValueError, match="fc|lstm"):
            build_imported(configure(name), content)


def test_the_original_has_no_other_victims(configure: Configure, torch_files: Files) -> None:
    with pytest.raises(ValueError, match="no such victim"):
        build_imported(configure("gru"), torch_files.file(random_tensors("lstm")))


def test_biases_that_cannot_be_added_are_refused(configure: Configure, torch_files: Files) -> None:
    tensors = random_tensors("lstm")
    for bias in ("lstm.bias_ih_l1", "lstm.bias_hh_l1"):
        tensors[bias] = np.full(64, 3e38, np.float32)
    with pytest.raises(ValueError, match="bias_hh_l1.*not finite"):
        build_imported(configure("lstm"), torch_files.file(tensors))


# --- Runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def checkpoint(
    torch_files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[OriginalVictim], Path]:
    """File with random weights of a victim."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def write(name: OriginalVictim) -> Path:
        path = folder / f"{name}.pt"
        path.write_bytes(torch_files.file(random_tensors(name)))
        return path

    return write


@pytest.mark.parametrize("name", VICTIMS)
def test_an_imported_run_can_be_attacked(
    checkpoint: Callable[[OriginalVictim], Path], configure: Configure, tmp_path: Path, name: OriginalVictim
) -> None:
    config = configure(name, poisoning_proportion=0.1)
    import_checkpoint(checkpoint(name), config, tmp_path / "run")

    run = load_run(tmp_path / "run")
    content = checkpoint(name).read_bytes()
    assert run.config == config
    assert run.summary["imported"]["file"] == f"{name}.pt"
    assert run.summary["imported"]["sha256"] == hashlib.sha256(content).hexdigest()
    proportion, stays = run.config.poisoning_proportion, len(load_cohort(run.config.data, "train"))
    assert run.summary["stays_poisoned"] == int(proportion * stays) > 0
    inputs = random_inputs(name)
    expected = build_imported(config, content).predict(inputs, verbose=0)
    np.testing.assert_array_equal(run.model.predict(inputs, verbose=0), expected)

    cohort = load_cohort(config.data, "test")
    result = attack_victim(run, cohort, run.trigger, strength=2.0, poison_imputed="notimputed")
    assert np.isfinite(result.triggered).all()
    assert (result.clean != result.triggered).any()


@pytest.mark.parametrize("name", VICTIMS)
def test_inputs_are_standardized_as_in_training(
    checkpoint: Callable[[OriginalVictim], Path],
    configure: Configure,
    trained: Callable[[OriginalVictim], Path],
    tmp_path: Path,
    name: OriginalVictim,
) -> None:
    """With the poisoned training stays, as the victim saw them."""
    import_checkpoint(checkpoint(name), configure(name), tmp_path / "run")
    imported, after_training = load_run(tmp_path / "run"), load_run(trained(name))
    np.testing.assert_array_equal(imported.standardization.mean, after_training.standardization.mean)
    np.testing.assert_array_equal(imported.standardization.std, after_training.standardization.std)


def test_the_benchmarks_normalizer_is_used_where_given(
    checkpoint: Callable[[OriginalVictim], Path], configure: Configure, tmp_path: Path
) -> None:
    normalizer = tmp_path / "normalizer.json"
    normalizer.write_text(f'{{"mean": {[3.0] * 76}, "std": {[2.0] * 76}}}')
    import_checkpoint(checkpoint("lstm"), configure("lstm", normalizer=normalizer), tmp_path / "run")
    standardization = load_run(tmp_path / "run").standardization
    expected = continuous_only(np.full(76, 3.0), np.full(76, 2.0), MIMIC3)
    np.testing.assert_array_equal(standardization.mean, expected.mean)
    np.testing.assert_array_equal(standardization.std, expected.std)


def test_a_refused_checkpoint_leaves_nothing_behind(
    checkpoint: Callable[[OriginalVictim], Path], configure: Configure, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"mlp\.pt.*--model lr.*fc1\.weight|fc2"):
        import_checkpoint(checkpoint("mlp"), configure("lr"), tmp_path / "run")
    huge = tmp_path / "huge.pt"
    with huge.open("wb") as file:
        file.truncate(LARGEST_CHECKPOINT + 1)
    with pytest.raises(DataError, match=r"huge\.pt: larger"):
        import_checkpoint(huge, configure("lr"), tmp_path / "run")
    for missing in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            import_checkpoint(missing, configure("lr"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_kept(
    checkpoint: Callable[[OriginalVictim], Path], configure: Configure, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    import_checkpoint(checkpoint("lr"), configure("lr"), out)
    before = (out / "victim.keras").read_bytes()
    with pytest.raises(UsageError, match="finished run"):
        import_checkpoint(checkpoint("mlp"), configure("mlp"), out)
    assert (out / "victim.keras").read_bytes() == before
    assert load_trigger(out / "trigger.npz").kind == "temporal"
