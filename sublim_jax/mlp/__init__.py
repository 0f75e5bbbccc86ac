"""World 1: multilayer perceptrons on handwritten digits (paper, section 6.2)."""
