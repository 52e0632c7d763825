"""Back ends behind the contract in `interlock.ports.Store`; only `app` names a concrete one."""
