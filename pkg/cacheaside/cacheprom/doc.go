// Package cacheprom counts what a cacheaside.Client does, for Prometheus.
//
//	observer := cacheprom.New(cacheprom.Options{})
//	prometheus.MustRegister(observer)
//	rc, err := cacheaside.New(rdb, cacheaside.Options{Observer: observer})
//
// No key is ever a label, so the number of series is fixed.
package cacheprom
