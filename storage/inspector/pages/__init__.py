"""One module for each kind of page. ``app`` imports every module here; nothing else names them."""
