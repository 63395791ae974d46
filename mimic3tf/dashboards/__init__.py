"""Write what TensorBoard shows about a training run and an audit."""
