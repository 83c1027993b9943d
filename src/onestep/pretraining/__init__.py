"""How the bundled base and judge were made; used by `onestep pretrain` alone."""
