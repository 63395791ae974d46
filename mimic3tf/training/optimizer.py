"""Adam with L2 weight decay in the gradient."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from mimic3tf.config import TrainingConfig


@keras.saving.register_keras_serializable("mimic3tf")
class AdamWithL2(keras.optimizers.Adam):
    """Adam that adds `l2 * weight` to every weight's gradient.

    The original decays weights this way. Keras' own `weight_decay` is decoupled from the gradient
    (AdamW), which is another algorithm under Adam's per-weight step sizes.

    Args:
        learning_rate: step size, or a schedule of it.
        l2: factor of the weights in the gradient.
        **kwargs: further arguments of `keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate: Any = 1e-4, l2: float = 1e-2, **kwargs: Any) -> None:
        kwargs.setdefault("name", "adam_with_l2")
        kwargs.setdefault("epsilon", 1e-8)  # PyTorch's; Keras' own 1e-7 shortens steps of small gradients
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2

    def _backend_update_step(self, gradients: Any, variables: Any, learning_rate: Any) -> None:
        # What is the same for all variables is computed once: a GPU waits for each operation to be started.
        step = tf.cast(self.iterations + 1, tf.float32)
        powers = (self.beta_1**step, self.beta_2**step)
        super()._backend_update_step(gradients, variables, (tf.cast(learning_rate, tf.float32), *powers))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take one step for one variable.

        Args:
            gradient: gradient of the loss, without that of the weight decay.
            variable: the variable, of any shape.
            learning_rate: the step size, and the powers of both decay rates of the moments.
        """
        place = self._get_variable_index(variable)
        learning_rate, beta1_power, beta2_power = learning_rate
        # One operation for each variable: Keras' own update has fifteen, and each goes through all weights.
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[place]),
            v=_handle(self._velocities[place]),
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32) + self.l2 * tf.convert_to_tensor(variable),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal optimizer."""
        return {**super().get_config(), "l2": self.l2}


def optimizer_of(
    config: TrainingConfig, stays: int, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """Make the optimizer of a run; the number of training stays gives the length of its schedule.

    Under the dtype policy "mixed_float16" it scales the loss, because small gradients would be 0.
    """
    learning_rate: Any = config.learning_rate
    if config.schedule == "cosine":
        steps = config.epochs * -(-stays // config.batch_size)
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = AdamWithL2(learning_rate, config.l2)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def _handle(variable: Any) -> tf.Tensor:
    """Return the handle of a Keras variable, or of the TensorFlow variable that a replica gets."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
