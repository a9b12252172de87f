"""Using a model: the latent cache, generation, speculative decoding."""
