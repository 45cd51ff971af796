"""Board side: fetch a stage, check it, load it, run it, pass activations on."""
