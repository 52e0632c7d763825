"""How fast Interlock is, beside what this machine could do at best."""
