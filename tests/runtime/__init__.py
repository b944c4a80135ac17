"""What the runtime promises."""
