"""The standard's side of Interlock: words, schemas, envelopes, rules and answers. Knows nothing of stores or HTTP."""
