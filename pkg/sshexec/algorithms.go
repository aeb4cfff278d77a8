package sshexec

import "github.com/fleetd/fleetd/pkg/sshexec/internal/algorithms"

// An AlgorithmPolicy says which algorithms a connection may use.
type AlgorithmPolicy = algorithms.Policy

const (
	// Modern is what OpenSSH offers by default today: nothing with SHA-1.
	Modern = algorithms.Modern
	// FIPS is what FIPS 140-3 allows of that: no Curve25519, Ed25519 or ChaCha20.
	FIPS = algorithms.FIPS
)
