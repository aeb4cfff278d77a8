//go:build lab

package nodes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

type nodeReport struct{ BootID, KernelVersion string }

type nodeReports struct{ ch chan map[string]nodeReport }

// wait returns the last report of a node, at the latest when it is what one waits for.
func (r *nodeReports) wait(ctx context.Context, name string, want nodeReport) (last nodeReport) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		all := <-r.ch
		last = all[name]
		r.ch <- all
		if last == want {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	return last
}

// serveNodes is the one call of an API server that a node makes, where the lab expects the API server.
func serveNodes(t *testing.T, lab *Lab, cert, key []byte) *nodeReports {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	err = inNetns(lab.Netns, func() (err error) { ln, err = net.Listen("tcp4", "127.0.0.1:16443"); return err })
	if err != nil {
		t.Fatal(err)
	}
	reports := &nodeReports{ch: make(chan map[string]nodeReport, 1)}
	reports.ch <- map[string]nodeReport{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		name, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/status"), "/api/v1/nodes/")
		var node struct{ Status struct{ NodeInfo nodeReport } }
		if err != nil || !ok || r.Method != http.MethodPatch || r.Header.Get("Authorization") != "Bearer lab-token" ||
			r.Header.Get("Content-Type") != "application/merge-patch+json" || json.Unmarshal(body, &node) != nil {
			http.Error(w, "not what a node reports", http.StatusBadRequest)
			return
		}
		all := <-reports.ch
		all[name] = node.Status.NodeInfo
		reports.ch <- all
	})}
	go func() {
		_ = server.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}})) // until it is closed
	}()
	t.Cleanup(func() { server.Close() })
	return reports
}

func selfSigned(t *testing.T) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(10, 0, 2, 101)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
