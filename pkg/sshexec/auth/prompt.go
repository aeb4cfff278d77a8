package auth

import (
	"regexp"
	"slices"
	"strings"
)

// passwordWords are what su's prompt has before its colon. Source: Ansible's su
// plugin, which has them of the translations of Linux-PAM.
var passwordWords = []string{
	"Password", "암호", "パスワード", "Adgangskode", "Contraseña", "Contrasenya", "Hasło", "Heslo", "Jelszó", "Lösenord",
	"Mật khẩu", "Mot de passe", "Parola", "Parool", "Pasahitza", "Passord", "Passwort", "Salasana", "Sandi", "Senha",
	"Wachtwoord", "ססמה", "Лозинка", "Парола", "Пароль", "गुप्तशब्द", "शब्दकूट", "సంకేతపదము", "හස්පදය", "密码", "密碼", "口令",
}

var passwordPrompt = func() *regexp.Regexp {
	words := slices.Clone(passwordWords)
	for i, w := range words {
		words[i] = regexp.QuoteMeta(w)
	}
	return regexp.MustCompile(`(?i)(?:` + strings.Join(words, "|") + `) ?[:：] ?$`)
}()

// IsPasswordPrompt tells that a line that has not ended asks for a password.
func IsPasswordPrompt(line string) bool { return passwordPrompt.MatchString(line) }
