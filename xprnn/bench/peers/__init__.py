"""The same work in other libraries: imported by the processes that time it, by nobody else."""
