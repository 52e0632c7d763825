"""Messages, schemas and profiles that nobody would send in good faith, drawn without end, and what must hold for each.

A case is drawn from a seed and a number alone, and what is looked at follows from its bytes alone: so every case can be
had again, by its number or from the file in which it was kept. `docs/fuzzing.md` says what is drawn and looked at.
"""
