"""JobTasks: jobs made of tasks (see README.md)."""
