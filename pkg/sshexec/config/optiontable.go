package config

import "strings"

// what an option of ssh means to fleetd.
type optionUse int

const (
	unknown  optionUse = iota // refused in an inventory's arguments, warned of in ssh_config
	followed                  // read into the target
	harmless                  // does not change which host is reached, how, or as whom
	differs                   // fleetd chooses by itself; said in a warning
	refused                   // the host would be reached in another way without it
)

// optionUses has every option of ssh_config(5), OpenSSH 4.3 to 10.
var optionUses = func() map[string]optionUse {
	out := map[string]optionUse{}
	for use, names := range map[optionUse]string{
		followed: `addressfamily certificatefile challengeresponseauthentication connecttimeout globalknownhostsfile
			gssapiauthentication hostkeyalias hostname identitiesonly identityagent identityfile kbdinteractiveauthentication
			passwordauthentication port preferredauthentications proxycommand proxyjump pubkeyauthentication revokedhostkeys
			stricthostkeychecking user userknownhostsfile`,
		harmless: `addkeystoagent batchmode canonicaldomains canonicalizefallbacklocal canonicalizemaxdots
			canonicalizepermittedcnames channeltimeout checkhostip clearallforwardings compression compressionlevel
			connectionattempts controlmaster controlpath controlpersist dynamicforward enableescapecommandline enablesshkeysign
			escapechar exitonforwardfailure fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout
			forwardx11trusted gatewayports gssapiclientidentity gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange
			gssapirenewalforcesrekey gssapiserveridentity gssapitrustdns hashknownhosts hostbasedacceptedalgorithms
			hostbasedacceptedkeytypes hostbasedauthentication hostbasedkeytypes ignoreunknown ipqos kbdinteractivedevices
			localcommand localforward loglevel logverbose nohostauthenticationforlocalhost numberofpasswordprompts
			obscurekeystroketiming permitlocalcommand permitremoteopen protocol remotecommand remoteforward requesttty
			rhostsrsaauthentication rsaauthentication serveralivecountmax serveraliveinterval sessiontype
			skeyauthentication stdinnull streamlocalbindmask streamlocalbindunlink syslogfacility tag tcpkeepalive tunnel
			tunneldevice updatehostkeys useprivilegedport useroaming verifyhostkeydns versionaddendum visualhostkey warnweakcrypto
			xauthlocation`,
		differs: `casignaturealgorithms cipher ciphers hostkeyalgorithms kexalgorithms knownhostscommand macs pkcs11provider
			pubkeyacceptedalgorithms pubkeyacceptedkeytypes rekeylimit requiredrsasize rsaminsize securitykeyprovider sendenv setenv
			smartcarddevice`,
		refused: `bindaddress bindinterface canonicalizehostname proxyusefdpass refuseconnection`,
	} {
		for _, n := range strings.Fields(names) {
			out[n] = use
		}
	}
	return out
}()

// useOf tells what an option with this value means. key is in lower case.
func useOf(key, value string) optionUse {
	use := optionUses[key]
	if (use == refused || use == differs) && (isOff(value) || strings.EqualFold(value, "none")) {
		return harmless
	}
	return use
}
