"""Control from recorded episodes: nothing is tried while learning."""
