package sshexec_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fleetd/fleetd/pkg/sshexec"
	"github.com/fleetd/fleetd/pkg/sshexec/sshtest"
)

// TestSecondFactor: a host that wants a code after the password has a person asked
// for it, once, and one person not twice at a time.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, question, code, want string
		asks                       bool
	}{
		{"right", "Verification code: ", "123456", "", true},
		{"one-time password", "One-time password (OATH) for `centos': ", "123456", "", true},
		{"wrong", "Verification code: ", "654321", "the host refuses the login", true},
		{"nobody there", "Verification code: ", "", `the host asks "Verification code:", and there is no answer: nobody`, true},
		{"no one to ask", "Verification code: ", "", `the host asks "Verification code:", and there is nobody to answer`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
				conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
					if a, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil || a[0] != "pw" {
						return nil, errors.Join(errNo, err)
					}
					for range 3 { // as PAM does
						if a, err := ask("", "Open the \x1b[1mapp", []string{tc.question}, []bool{true}); err != nil {
							return nil, err
						} else if a[0] == "123456" {
							return nil, nil
						}
					}
					return nil, errNo
				}
				if conn, chans, reqs, err := ssh.NewServerConn(c, conf); err == nil {
					go ssh.DiscardRequests(reqs)
					go func() {
						for range chans {
						}
					}()
					_ = conn.Wait()
				}
			})
			var asked, now atomic.Int32
			var o sshexec.Options
			if tc.asks {
				o.Challenge = func(_ context.Context, target sshexec.Target, instruction, question string, echo bool) (sshexec.Secret, error) {
					if n := now.Add(1); n > 1 {
						t.Errorf("%d questions at once", n)
					}
					defer now.Add(-1)
					asked.Add(1)
					time.Sleep(20 * time.Millisecond)
					if question != tc.question || instruction != "Open the app" || !echo || !strings.HasPrefix(target.Name, "web") {
						t.Errorf("%s asks %q, %q", target.Name, instruction, question)
					}
					if tc.code == "" {
						return "", errors.New("nobody")
					}
					return sshexec.Secret(tc.code), nil
				}
			}
			p := newPool(t, o)
			known, err := os.ReadFile(h.target.KnownHosts[0])
			if err != nil {
				t.Fatal(err)
			}
			_, key, _ := strings.Cut(string(known), " ")
			file := writeFile(t, "web* "+key)
			var wg sync.WaitGroup
			const hosts = 4
			for i := range hosts {
				target := h.target
				target.Name = "web" + string(rune('a'+i))
				target.Password, target.HostKeyAlias, target.KnownHosts = "pw", target.Name, []string{file}
				wg.Go(func() {
					err := p.Connect(testContext(t), target)
					if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
						t.Errorf("%v, want %q", err, tc.want)
					}
				})
			}
			wg.Wait()
			if n := asked.Load(); tc.asks && n != hosts {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestQuestions: which gets the password; any other that nobody answers ends the
// login at once, since each try may count.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for question, gets := range map[string]bool{
		"Password: ":                          true,
		"Password for decoder@EXAMPLE.ORG: ":  true,
		"(alice@web1) Mot de passe :":         true,
		"Verification code: ":                 false,
		"Enter PASSCODE: ":                    false,
		"One-time password (OATH) for `al': ": false,
		"Password + token: ":                  false,
		"Second Factor: ":                     false,
	} {
		var tries, sent atomic.Int32
		h := newHostile(t, func(c net.Conn, conf *ssh.ServerConfig) {
			tries.Add(1)
			conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				if a, err := ask("", "", []string{question}, []bool{false}); err == nil && a[0] == "pw" {
					sent.Add(1)
				}
				return nil, errNo
			}
			_, _, _, _ = ssh.NewServerConn(c, conf)
		})
		target := h.target
		target.Password = "pw"
		err := newPool(t, sshexec.Options{}).Connect(testContext(t), target)
		if sshexec.KindOf(err) != sshexec.KindAuth || tries.Load() != 1 || (sent.Load() == 1) != gets {
			t.Errorf("%q: %d tries, password sent %d times: %v", question, tries.Load(), sent.Load(), err)
		}
	}
}

// TestPersonIsNotAskedForAPassword: that is what -k is for; a key that hundreds of
// hosts refuse would ask hundreds of times.
func TestPersonIsNotAskedForAPassword(t *testing.T) {
	t.Parallel()
	target := sshtest.New(t, sshtest.Password("pw")).Target("web1")
	target.IdentityFiles = []string{}
	p := newPool(t, sshexec.Options{Challenge: func(context.Context, sshexec.Target, string, string, bool) (sshexec.Secret, error) {
		t.Error("asked")
		return "pw", nil
	}})
	if err := runTrue(t, p, target); sshexec.KindOf(err) != sshexec.KindAuth || !strings.Contains(err.Error(), "the host refuses the login") {
		t.Error(err)
	}
}

// TestFIDOKeyFile: only an agent can use one; another key does as well.
func TestFIDOKeyFile(t *testing.T) {
	srv := sshtest.New(t)
	pub := ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, strings.Repeat("k", 32), "ssh:"})
	for _, cipher := range []string{"none", "aes256-ctr"} {
		kdf := map[string]string{"none": "none", "aes256-ctr": "bcrypt"}[cipher]
		body := append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
			Cipher, KDF, Options string
			Keys                 uint32
			Public, Private      []byte
		}{cipher, kdf, "", 1, pub, make([]byte, 64)})...)
		sk := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: body})))
		target := srv.Target("web1")
		target.IdentityFiles = []string{sk, srv.ClientKeyFile()}
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); err != nil {
			t.Errorf("%s: %v", cipher, err)
		}
		target.IdentityFiles = []string{sk}
		if err := runTrue(t, newPool(t, sshexec.Options{}), target); err == nil || !strings.Contains(err.Error(), "is a FIDO key, which is used through an agent: ssh-add "+sk) {
			t.Errorf("%s: %v", cipher, err)
		}
	}
}
