"""zogyp: proper image subtraction, registration and co-addition for time-domain astronomy."""

__version__ = "2.0.0.dev0"
