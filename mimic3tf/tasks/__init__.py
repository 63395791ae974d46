"""What is predicted, and how a prediction is scored."""
