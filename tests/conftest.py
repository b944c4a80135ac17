"""Tests compile anew what was compiled before, in whatever process they start: those of the cache turn it on themselves."""

import os

os.environ["IRC_CACHE_PROGRAMS"] = "0"
