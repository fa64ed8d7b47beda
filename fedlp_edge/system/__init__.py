"""What the operating system gives a process: files that survive a crash, locks, control groups, a cache."""
