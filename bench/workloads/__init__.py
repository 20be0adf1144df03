"""What is measured: one module for each workload, or for two that share their parts."""
