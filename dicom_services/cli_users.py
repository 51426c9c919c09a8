"""`radloop users`: accounts, roles and the patients they may see."""
