"""Double descent: what interpolation costs in linear models, in closed form and measured."""
