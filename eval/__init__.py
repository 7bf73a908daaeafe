"""Looks at exported models, at text and at what the stages wrote; trains nothing and never imports data_pipeline."""
