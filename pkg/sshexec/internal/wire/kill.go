package wire

// KillScript ends what the shell with the process id $fl_kill was told to run:
// SIGTERM, then after $fl_grace seconds SIGKILL. It does both in one round trip,
// so that a bastion that goes away after the first signal still leaves nothing
// behind.
//
// It ends the process group where the shell leads it, or shares it with the
// session's first process, which is sshd's child (sudo does not start a group);
// else only the process, because the group could be sshd's own, and -1 would be
// all processes. Source: proc(5), /proc/PID/stat: behind the name, in which
// anything may be, come the state, the parent, the group and the session. Without
// /proc, or when the shell is gone, there may be the group that it led.
const KillScript = `fl_t=$fl_kill fl_l=
{ IFS= read -r fl_l <"/proc/$fl_kill/stat"; } 2>/dev/null
if [ -n "$fl_l" ]; then
  fl_l="${fl_l##*) }"; set -- $fl_l
  if [ "$3" = "$fl_kill" ] || { [ "$3" = "$4" ] && [ "$3" -gt 1 ]; }; then fl_t=-$3; fi
elif kill -0 "-$fl_kill" 2>/dev/null; then fl_t=-$fl_kill; fi
kill -TERM "$fl_t" 2>/dev/null; n=0
while [ $n -lt "$fl_grace" ] && kill -0 "$fl_t" 2>/dev/null; do sleep 1; n=$((n+1)); done
kill -KILL "$fl_t" 2>/dev/null; :`
