"""What notebook and runner agree on: parameters, the calls a notebook makes, errors."""
