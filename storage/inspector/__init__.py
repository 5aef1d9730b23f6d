"""The page: what a database holds, served as HTML and JSON on this machine. It reads, and changes nothing."""
