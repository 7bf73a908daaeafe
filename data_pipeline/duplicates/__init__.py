"""What dedup is made of: sketches of documents, pairs, clusters, decisions; paragraphs that many documents share."""
