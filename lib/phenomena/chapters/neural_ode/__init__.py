"""Neural ordinary differential equations: depth as time."""
