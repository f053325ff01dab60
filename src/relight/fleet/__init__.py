"""Where agents come from: this machine's own, started and watched here."""
