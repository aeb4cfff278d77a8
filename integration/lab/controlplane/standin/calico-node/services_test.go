package main

import (
	"encoding/json"
	"testing"
)

const someServices = `[
	{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"clusterIP": "10.96.3.7", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}},
	{"metadata": {"namespace": "kube-system", "name": "kube-dns"}, "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]}},
	{"metadata": {"namespace": "shop", "name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}},
	{"metadata": {"namespace": "shop", "name": "empty"}, "spec": {"clusterIP": "10.96.3.8", "ports": [{"port": 80}]}}]`

const someSlices = `[
	{"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
	 "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": false}}, {"addresses": ["10.244.1.5"], "conditions": {"ready": true}}, {"addresses": ["10.244.0.9"]}]},
	{"metadata": {"namespace": "other", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"port": 1}], "endpoints": [{"addresses": ["10.244.0.1"]}]},
	{"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv6", "ports": [{"port": 8080}], "endpoints": [{"addresses": ["0::1"]}]},
	{"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "headless"}}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": ["10.244.0.2"]}]},
	{"metadata": {"namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}}, "addressType": "IPv4",
	 "ports": [{"name": "dns-tcp", "port": 5353}, {"name": "dns", "port": 53}], "endpoints": [{"addresses": ["10.244.1.3"]}]}]`

func TestRules(t *testing.T) {
	var services []service
	var ends []endpointSlice
	if err := json.Unmarshal([]byte(someServices), &services); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(someSlices), &ends); err != nil {
		t.Fatal(err)
	}
	want := `*nat
:STANDIN-SERVICES - [0:0]
:STANDIN-POSTROUTING - [0:0]
-A STANDIN-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.1.3:53
-A STANDIN-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 10.244.1.3:5353
-A STANDIN-SERVICES -d 10.96.3.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.0.9:8080
-A STANDIN-SERVICES -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -j DNAT --to-destination 10.244.0.9:8080
-A STANDIN-POSTROUTING -p tcp -m conntrack --ctstate DNAT --ctorigdstport 30080 -j MASQUERADE
COMMIT
`
	if got := rulesOf(services, ends); got != want {
		t.Errorf("rules:\n%s\nwant:\n%s", got, want)
	}
}
