"""Public doubles: a clock that tests move, agents without processes, counters counted again."""
