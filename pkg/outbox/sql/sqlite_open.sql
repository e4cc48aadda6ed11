SELECT identity, pruned_below FROM cache_outbox_state;
