SELECT pruned_below FROM cache_outbox.state;
