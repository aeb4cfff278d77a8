package sshexec

import (
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
)

// keyExchanges are x/crypto's, in its order, but for P-256, which comes before
// X25519: both are of equal strength, and P-256 takes an OpenSSH node less. A peer
// that knows ML-KEM still gets it first. See docs/decisions/0006-key-exchange.md.
var keyExchanges = sync.OnceValue(func() []string {
	var c ssh.Config
	c.SetDefaults()
	all := slices.DeleteFunc(slices.Clone(c.KeyExchanges), func(k string) bool { return k == ssh.KeyExchangeECDHP256 })
	return slices.Insert(all, slices.Index(all, ssh.KeyExchangeCurve25519), ssh.KeyExchangeECDHP256)
})

func keyExchangeOf(c ssh.ConnMetadata) string {
	if a, ok := c.(ssh.AlgorithmsConnMetadata); ok {
		return a.Algorithms().KeyExchange
	}
	return ""
}
