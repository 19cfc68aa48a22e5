"""Local elasticity (Zhang, Wang and Su 2021)."""
