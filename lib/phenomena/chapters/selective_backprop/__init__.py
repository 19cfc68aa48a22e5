"""Does choosing the examples of a step pay? Selective backprop, gradient matching and the random baseline."""
