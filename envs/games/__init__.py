"""Two-player games with known rules: pure rules in a file each, one environment over all of them, exact measures."""
