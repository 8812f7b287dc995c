"""Running a program: workers, memory, saved models."""
