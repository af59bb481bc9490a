"""What a process needs of its machine: files, signals, logs, time, other processes."""
