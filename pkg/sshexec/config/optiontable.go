package config

//go:generate go test -run TestManual -update

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

// optionNames has every option of ssh_config(5), OpenSSH 4.3 to 10.
var optionNames = map[optionUse]string{
	followed: `AddressFamily CertificateFile ChallengeResponseAuthentication ConnectTimeout GlobalKnownHostsFile
		GSSAPIAuthentication HostKeyAlias HostName IdentitiesOnly IdentityAgent IdentityFile KbdInteractiveAuthentication
		PasswordAuthentication Port PreferredAuthentications ProxyCommand ProxyJump PubkeyAuthentication RevokedHostKeys
		StrictHostKeyChecking User UserKnownHostsFile`,
	harmless: `AddKeysToAgent BatchMode CanonicalDomains CanonicalizeFallbackLocal CanonicalizeMaxDots
		CanonicalizePermittedCNAMEs ChannelTimeout CheckHostIP ClearAllForwardings Compression CompressionLevel
		ConnectionAttempts ControlMaster ControlPath ControlPersist DynamicForward EnableEscapeCommandline EnableSSHKeysign
		EscapeChar ExitOnForwardFailure FingerprintHash ForkAfterAuthentication ForwardAgent ForwardX11 ForwardX11Timeout
		ForwardX11Trusted GatewayPorts GSSAPIClientIdentity GSSAPIDelegateCredentials GSSAPIKexAlgorithms GSSAPIKeyExchange
		GSSAPIRenewalForcesRekey GSSAPIServerIdentity GSSAPITrustDns HashKnownHosts HostbasedAcceptedAlgorithms
		HostbasedAcceptedKeyTypes HostbasedAuthentication HostbasedKeyTypes IgnoreUnknown IPQoS KbdInteractiveDevices
		LocalCommand LocalForward LogLevel LogVerbose NoHostAuthenticationForLocalhost NumberOfPasswordPrompts
		ObscureKeystrokeTiming PermitLocalCommand PermitRemoteOpen Protocol RemoteCommand RemoteForward RequestTTY
		RhostsRSAAuthentication RSAAuthentication ServerAliveCountMax ServerAliveInterval SessionType
		SkeyAuthentication StdinNull StreamLocalBindMask StreamLocalBindUnlink SyslogFacility Tag TCPKeepAlive Tunnel
		TunnelDevice UpdateHostKeys UsePrivilegedPort UseRoaming VerifyHostKeyDNS VersionAddendum VisualHostKey WarnWeakCrypto
		XAuthLocation`,
	differs: `CASignatureAlgorithms Cipher Ciphers HostKeyAlgorithms KexAlgorithms KnownHostsCommand MACs PKCS11Provider
		PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes RekeyLimit RequiredRSASize RSAMinSize SecurityKeyProvider SendEnv SetEnv
		SmartcardDevice`,
	refused: `BindAddress BindInterface CanonicalizeHostname ProxyUseFdpass RefuseConnection`,
}

// variableNames has the variables of ansible-core's connection plugin ssh, 2.9 to
// 2.20, and of its become plugins sudo and su.
var variableNames = map[optionUse]string{
	followed: `ansible_connection ansible_host ansible_ssh_host ansible_port ansible_ssh_port ansible_user ansible_ssh_user
		ansible_password ansible_ssh_pass ansible_ssh_password ansible_private_key_file ansible_ssh_private_key_file
		ansible_ssh_args ansible_ssh_common_args ansible_ssh_extra_args ansible_ssh_executable
		ansible_host_key_checking ansible_ssh_host_key_checking ansible_timeout ansible_ssh_timeout
		ansible_become_method ansible_become_user ansible_become_exe ansible_become_flags ansible_become_password ansible_become_pass
		ansible_sudo_user ansible_sudo_exe ansible_sudo_flags ansible_sudo_pass
		ansible_su_user ansible_su_exe ansible_su_flags ansible_su_pass`,
	harmless: `ansible_control_path ansible_control_path_dir ansible_pipelining ansible_ssh_pipelining ansible_ssh_retries
		ansible_ssh_use_tty ansible_ssh_transfer_method ansible_ssh_verbosity ansible_sshpass_prompt ansible_ssh_password_mechanism
		ansible_su_prompt_l10n ansible_sftp_executable ansible_sftp_extra_args ansible_sftp_batch_mode
		ansible_scp_executable ansible_scp_extra_args ansible_scp_if_ssh`,
	differs: `ansible_ssh_pkcs11_provider ansible_private_key ansible_ssh_private_key
		ansible_private_key_passphrase ansible_ssh_private_key_passphrase`,
}

var optionUses = func() map[string]optionUse {
	out := map[string]optionUse{}
	for use, names := range optionNames {
		for _, n := range strings.Fields(names) {
			out[strings.ToLower(n)] = use
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
