"""What is kept of a computation and how it is shown: records, checkpoints, tables, figures, reports."""
