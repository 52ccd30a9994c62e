"""How it is spoken: tables that say which path is which operation, plus parse and render."""
