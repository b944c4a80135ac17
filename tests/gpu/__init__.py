"""Programs on a GPU; without one, every test here is skipped and says why."""
