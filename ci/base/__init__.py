"""The root file system that every step starts from, and the machine's settings that steps may see while they run."""
