# Says what is at a path, in lines of words. What others have named, a path or the
# end of a link, is in hexadecimal: it may hold any byte.
hex() { od -An -v -tx1 | tr -d ' \n'; }

file() { # file PATH
	p=$1
	case $p in -*) p=./$p ;; esac
	if [ -e "$p" ]; then
		stat -L -c '%a %s %F' -- "$p"
		[ -f "$p" ] && sha256sum <"$p"
	else
		echo missing
	fi
	printf 'real %s\n' "$(readlink -nf -- "$p" | hex)"
	[ -e "$p" ] || [ -L "$p" ] || return 0
	inode='%f %u %g %s %h %d.%i:%U:%G'
	stat -c "self $inode" -- "$p"
	if [ -L "$p" ]; then
		printf 'link %s\n' "$(readlink -n -- "$p" | hex)"
		[ -e "$p" ] && stat -L -c "end $inode" -- "$p"
	fi
	[ -f "$p" ] && [ -r "$p" ] && printf 'sha1 %s\n' "$(sha1sum <"$p" | cut -c 1-40)"
	[ -d /sys/fs/selinux/booleans ] && stat -c 'context %C' -- "$p"
	return 0
}
