"""What `coembed.fit` is made of: batches and their schedule, a step and its gradient, state that survives a kill."""
