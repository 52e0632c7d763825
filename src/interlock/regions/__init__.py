"""Several regions: who may end what, who watches whom, and what happens when one is lost."""
