"""What made a model, signed: record, store, ledger file, verify, reproduce, diff, blame, model card."""
