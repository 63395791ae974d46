"""What TensorBoard shows of a training and an audit."""
